"""A small page on 127.0.0.1 that asks a trained model."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from bench.inference.requests import Answer, Request, Wants

HOST = "127.0.0.1"


def make_page(title: str, note: str, wants: Wants, ask: Callable[[Sequence[Request]], list[Answer]]) -> Any:
    """The page, not yet shown. ValueError: Gradio is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise ValueError("--serve needs Gradio: pip install -c constraints.txt -e '.[serve]'") from error

    def answer(*fields: str) -> tuple[str, dict[str, float] | None]:
        try:
            asked = wants.read(_row(wants, fields), "the form")
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from error
        (found,) = ask([asked])
        return said(found), readable(found, asked)

    with gradio.Blocks(title=title, analytics_enabled=False) as page:
        gradio.Markdown(f"# {title}\n{note}")
        if wants.options:
            fields = [gradio.Textbox(label="Question", lines=3), gradio.Textbox(label="Options, one per line", lines=4)]
        else:
            labels = ["Text", "Second text"] if wants.pairs else ["Text"]
            fields = [gradio.Textbox(label=label, lines=3) for label in labels]
        button = gradio.Button("Answer", variant="primary")
        shown = [gradio.Textbox(label="Answer", interactive=False), gradio.Label(label="Probabilities")]
        button.click(answer, fields, shown, api_name="answer")
    return page


def serve_page(page: Any, port: int | None, say: Callable[[str], None]) -> None:
    """Show the page until Ctrl-C. port: None takes a free one from 7860 on. ValueError: it is taken."""
    try:
        _, address, _ = page.launch(
            server_name=HOST, server_port=port, share=False, inbrowser=False, quiet=True, prevent_thread_lock=True
        )
    except OSError as error:
        raise ValueError(f"--port {port} is taken; choose another, or leave it out") from error
    say(f"open {address} in a browser; Ctrl-C ends it")
    page.block_thread()


def said(answer: Answer) -> str:
    """An answer in a line."""
    if answer.answer is None:
        return "no option was named"
    if isinstance(answer.answer, float):
        return f"{answer.answer:.3f}"
    return answer.answer if answer.option is None else f"{answer.answer}. {answer.option}"


def readable(answer: Answer, asked: Request) -> dict[str, float] | None:
    """The probabilities by what people read: labels, or letters with their options."""
    if answer.probabilities is None or asked.options is None:
        return answer.probabilities
    pairs = zip(answer.probabilities.items(), asked.options, strict=True)
    return {f"{letter}. {option}": share for (letter, share), option in pairs}


def _row(wants: Wants, fields: Sequence[str]) -> dict[str, Any]:
    if not wants.options:
        return dict(zip(("text", "second"), fields, strict=False))
    lines = [line.strip() for line in (fields[1] or "").splitlines()]
    return {"question": fields[0], "options": [line for line in lines if line]}
