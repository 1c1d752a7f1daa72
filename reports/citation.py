"""How to cite the project with the version that made some results."""

from pathlib import Path
from typing import Any

import yaml

from files import Record

CITATION = Path(__file__).resolve().parents[1] / "CITATION.cff"


def citation_of(metrics: Record) -> tuple[str, str]:
    """Return a reference as a sentence and in BibTeX, from CITATION.cff and from the version and date of results.

    Results of an earlier version may lack the version or the date, which are then left out.
    """
    about: dict[str, Any] = yaml.safe_load(CITATION.read_text(encoding="utf-8"))
    authors = [_name(author) for author in about["authors"]]
    versions = metrics["versions"]
    version, commit, year = versions.get("voxprobe", ""), versions.get("commit", ""), metrics.get("created", "")[:4]
    # The commit names the code more exactly than the version, which several commits share.
    details = [f"version {version}" if version else "", f"commit {commit}" if commit else ""]
    listed = "; ".join(authors) + (f" ({year})" if year else "")
    sentence = ", ".join([f"{listed}. {about['title']}", *filter(None, details)]) + ". Computer software."
    fields = {
        "author": "{" + "} and {".join(authors) + "}",
        "title": about["title"],
        "version": version,
        "year": year,
        "note": details[1],
    }
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
    return sentence, "@software{voxprobe,\n" + ",\n".join(lines) + "\n}"


def _name(author: Record) -> str:
    """Return the name of a person or of a group."""
    return author.get("name") or f"{author['given-names']} {author['family-names']}"
