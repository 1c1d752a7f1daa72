"""Say whose classifier a new one will replace."""

import logging
from collections.abc import Iterable
from pathlib import Path

from files import InputError, count_of, file_kinds, listing, load_tensors, normal_form

logger = logging.getLogger(__name__)


def warn_of_replaced_speakers(path: Path, speakers: Iterable[str]) -> None:
    """Warn if the classifier in a file knows speakers that are not among those of the classifier to be saved there.

    A file that does not exist, or that cannot be read, is passed over.

    Parameters
    ----------
    path : Path
        File that the new classifier will be saved in.
    speakers : iterable of str
        Names of its speakers.
    """
    try:
        known = load_tensors(path, file_kinds.CLASSIFIER, InputError).get("speakers")
    except InputError:
        return
    others = sorted({normal_form(str(name)) for name in known or ()} - set(map(normal_form, speakers)))
    if others:
        logger.warning(
            "%s: this classifier of an earlier run knows %s who %s not in these features (%s), and will be replaced; "
            "to keep it, give another --output_dir",
            path,
            count_of(len(others), "speaker"),
            "is" if len(others) == 1 else "are",
            listing(others),
        )
