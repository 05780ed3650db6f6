"""peftgrid: compare parameter-efficient fine-tuning methods so that the comparison can be trusted."""

__version__ = "0.1.0"
