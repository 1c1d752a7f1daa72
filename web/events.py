"""The chain of events of an action: keep the audio in the browser, ask, draw the answer, empty the inputs."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio

# Actions that embed a few recordings wait for each other; the timeline of a long one does not hold them up.
SHORT, LONG = "short recordings", "long recordings"


def connect(
    button: gradio.Button,
    action: Callable[..., Any],
    *,
    inputs: Sequence[Any],
    answer: Any,
    draw: Callable[[dict[str, Any]], str],
    drawn: gradio.HTML,
    recordings: Sequence[Any],
    api_name: str,
    queue: str = SHORT,
) -> Any:
    """Let a button run an action, which is also a function of the API; return the last event, for further ones.

    Parameters
    ----------
    button : gradio.Button
    action : callable
        Function of the values of the `inputs` that returns the values of `answer`.
    inputs : sequence of components
    answer : gradio.JSON or sequence of components
        Invisible component of the plain values, which are the answer of the API; further ones are for later events.
    draw : callable
        Function that returns the answer as HTML.
    drawn : gradio.HTML
        Where it is shown.
    recordings : sequence of components
        The inputs with uploads. The browser keeps their audio before the action deletes them on the server, and they
        are empty after the answer.
    api_name : str
        Name of the action in the API.
    queue : str
        Name of the queue, `SHORT` or `LONG`; the actions of a queue run one after the other.
    """
    asked = button.click(
        action,
        list(inputs),
        answer,
        js="(...values) => voxprobe.keep(values)",
        api_name=api_name,
        concurrency_id=queue,
        concurrency_limit=1,
        show_progress_on=drawn,
    )
    plain = answer[0] if isinstance(answer, list) else answer
    asked.failure(lambda: "", None, drawn, api_visibility="private", queue=False)
    shown = asked.success(draw, plain, drawn, api_visibility="private", queue=False)
    empty = "null" if len(recordings) == 1 else f"[{', '.join('null' for _ in recordings)}]"
    # The server has deleted the uploads, also after an error, which `then` would not follow.
    for event in (asked.success, asked.failure):
        event(None, None, list(recordings), js=f"() => {empty}", api_visibility="private")
    return shown
