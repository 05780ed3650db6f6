"""A small web page on 127.0.0.1 that sends requests to a trained model."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from bench.inference.requests import Answer, Request, Wants

HOST = "127.0.0.1"


def make_page(title: str, note: str, wants: Wants, ask: Callable[[Sequence[Request]], list[Answer]]) -> Any:
    """Build the page, without serving it.

    Args:
        title: The title of the page.
        note: A line below the title.
        wants: The kind of request that the model answers.
        ask: Answers a list of requests.

    Returns:
        A Gradio `Blocks` object.

    Raises:
        ValueError: Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise ValueError("--serve needs Gradio: pip install -c constraints.txt -e '.[serve]'") from error

    def answer(*fields: str) -> tuple[str, dict[str, float] | None]:
        try:
            request = wants.read(_row(wants, fields), "the form")
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from error
        (reply,) = ask([request])
        return said(reply), readable(reply, request)

    with gradio.Blocks(title=title, analytics_enabled=False) as page:
        gradio.Markdown(f"# {title}\n{note}")
        if wants.options:
            fields = [gradio.Textbox(label="Question", lines=3), gradio.Textbox(label="Options, one per line", lines=4)]
        else:
            labels = ["Text", "Second text"] if wants.pairs else ["Text"]
            fields = [gradio.Textbox(label=label, lines=3) for label in labels]
        button = gradio.Button("Answer", variant="primary")
        outputs = [gradio.Textbox(label="Answer", interactive=False), gradio.Label(label="Probabilities")]
        button.click(answer, fields, outputs, api_name="answer")
    return page


def serve_page(page: Any, port: int | None, say: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C.

    Args:
        page: A page from `make_page`.
        port: The port, or None for the first free one from 7860 on.
        say: Prints a line for the user.

    Raises:
        ValueError: The port is taken.
    """
    try:
        _, address, _ = page.launch(
            server_name=HOST, server_port=port, share=False, inbrowser=False, quiet=True, prevent_thread_lock=True
        )
    except OSError as error:
        raise ValueError(f"--port {port} is taken; choose another, or leave it out") from error
    say(f"open {address} in a browser; Ctrl-C ends it")
    page.block_thread()


def said(answer: Answer) -> str:
    """Return an answer as one line of text."""
    if answer.answer is None:
        return "the generated text names no option"
    if isinstance(answer.answer, float):
        return f"{answer.answer:.3f}"
    return answer.answer if answer.option is None else f"{answer.answer}. {answer.option}"


def readable(answer: Answer, asked: Request) -> dict[str, float] | None:
    """Return the probabilities with readable names.

    Args:
        answer: The answer.
        asked: The request that it answers.

    Returns:
        Probabilities by label, or by letter and option. None if the answer has no probabilities.
    """
    if answer.probabilities is None or asked.options is None:
        return answer.probabilities
    pairs = zip(answer.probabilities.items(), asked.options, strict=True)
    return {f"{letter}. {option}": probability for (letter, probability), option in pairs}


def _row(wants: Wants, fields: Sequence[str]) -> dict[str, Any]:
    """The fields of the form as plain data."""
    if not wants.options:
        return dict(zip(("text", "second"), fields, strict=False))
    lines = [line.strip() for line in (fields[1] or "").splitlines()]
    return {"question": fields[0], "options": [line for line in lines if line]}
