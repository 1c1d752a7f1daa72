"""Settings of the page."""

from dataclasses import dataclass
from typing import Annotated

from configs.base import InputPath, Range
from configs.verification import ChangedStoreConfig, EmbeddingConfig


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    return host in ("localhost", "::1") or host.startswith("127.")


@dataclass(frozen=True, kw_only=True)
class PageConfig(ChangedStoreConfig, EmbeddingConfig):
    """Serve a page on which speakers are enrolled and identified in a browser."""

    verifier: InputPath | None = None
    """Verifier for a new store: a file that speaker_verification.py train saved, or ready for the ready verifier, which
    uses the encoder campplus; by default outputs/speaker_verifier.pt if it exists, or else ready. An existing store
    contains its own verifier."""
    results_dir: tuple[InputPath, ...] = ()
    """Folders whose reports, descriptions of corpora and classifiers the page offers, with their subfolders."""
    host: str = "127.0.0.1"
    """Address to serve at; with another one than that of this machine alone, such as 0.0.0.0, --auth_file is needed."""
    port: Annotated[int, Range(0, 65535)] = 7860
    """Port to serve at; 0 chooses a free one."""
    auth_file: InputPath | None = None
    """File with a line user:password for each account that may use the page; only its owner may be able to read it."""
    no_auth: bool = False
    """Serve at an address that other machines reach without asking for a password."""
    max_upload: Annotated[int, Range(1, 100_000)] = 1000
    """Maximum size of an uploaded file (MB)."""
    max_minutes: Annotated[float, Range(1, 600)] = 120.0
    """Longest recording in which the page finds who speaks when (minutes)."""

    def problem(self) -> str | None:
        if not is_loopback(self.host) and self.auth_file is None and not self.no_auth:
            return (
                f"--host {self.host} serves voices and names to other machines; give --auth_file FILE with a line "
                "user:password for each account, or --no_auth."
            )
        if self.auth_file is not None and self.no_auth:
            return "--auth_file asks for a password, and --no_auth does not; give one of them."
        return super().problem()
