"""Ids of utterances in a file: one text with an id per line, which opens faster than a list of strings."""


def join_ids(ids: tuple[str, ...]) -> str:
    """Return ids as one text; line breaks and backslashes in them are escaped."""
    return "\n".join(text.replace("\\", "\\\\").replace("\n", "\\n") for text in ids)


def split_ids(stored: str | list[str], n_rows: int) -> tuple[str, ...]:
    """Return the ids in a text of `join_ids`, or in the list that an ``.npz`` file holds."""
    if isinstance(stored, list):
        return tuple(map(str, stored))
    return tuple(map(_unescape, stored.split("\n"))) if n_rows else ()


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))
