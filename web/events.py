"""The chain of events of an action: keep the audio in the browser, ask, draw the answer, empty the inputs."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import gradio

from web.workspace import refused

# Actions that embed a few recordings wait for each other; the timeline of a long one does not hold them up.
SHORT, LONG = "short recordings", "long recordings"
# Types of the values of components, which Gradio converts instead of checking.
TYPES: tuple[tuple[type, Any], ...] = (
    (gradio.Textbox, str),
    (gradio.Dropdown, str),
    (gradio.Slider, int | float),
    (gradio.Checkbox, bool),
)


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
    precondition: Callable[..., None] | None = None,
    checked: Sequence[Any] = (),
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
    precondition : callable, optional
        Function of the values of the components `checked` that raises an error if the action cannot be done. The
        recordings then stay in the page.
    checked : sequence of components
    queue : str
        Name of the queue, `SHORT` or `LONG`; the actions of a queue run one after the other.
    """
    start = button.click
    if precondition is not None:
        begun = "(...values) => voxprobe.begin(values)"
        start = button.click(precondition, list(checked), None, js=begun, api_visibility="private").success
    asked = start(
        _with_checks(action, inputs),
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


def _with_checks(action: Callable[..., Any], inputs: Sequence[Any]) -> Callable[..., Any]:
    """Wrap an action so that it checks the values of its inputs, whose errors Gradio would not show."""
    checks = [component.preprocess for component in inputs]
    for component in inputs:
        component.preprocess = _unchanged

    @wraps(action)
    def checked(*values: Any) -> Any:
        used = [
            _value(check, value, component=component)
            for check, value, component in zip(checks, values, inputs, strict=False)
        ]
        return action(*used, *values[len(used) :])

    return checked


def _value(check: Callable[[Any], Any], value: Any, *, component: Any) -> Any:
    """Return a checked value; raise an error that says which one cannot be used, without a traceback in the log."""
    label, kind = component.label, next((kind for each, kind in TYPES if isinstance(component, each)), object)
    try:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool and kind is not object):
            raise TypeError
        return check(value)
    except gradio.Error as error:
        raise refused(f"{label}: {error.message}") from error
    except (TypeError, ValueError) as error:
        raise refused(f"{label}: the value {value!r} cannot be used.") from error


def _unchanged(value: Any) -> Any:
    return value
