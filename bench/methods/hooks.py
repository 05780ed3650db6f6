"""To be removed."""

from bench.hooks import Hooks as Hooks
