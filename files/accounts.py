"""Read the accounts that may use the page."""

import os
import stat
from pathlib import Path

from files.errors import InputError
from files.text_tables import read_lines


class AccountsError(InputError):
    """A file of accounts cannot be used."""


def read_accounts(path: Path) -> list[tuple[str, str]]:
    """Read a file with a line ``user:password`` for each account; return the users and their passwords.

    Empty lines, and lines that begin with ``#``, are skipped. A password may contain colons.

    Raises
    ------
    AccountsError
        The file cannot be read, other users of this machine can read it, or a line is not an account.
    """
    kind = "a text file with a line 'user:password' for each account"
    accounts: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, kind, AccountsError), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        user, colon, password = line.partition(":")
        if not (colon and user.strip() and password):
            # The line is not repeated: it may hold a password.
            raise AccountsError(f"{path}, line {number}: expected user:password.")
        if user in accounts:
            raise AccountsError(f"{path}, line {number}: the user {user!r} has two passwords; delete one of the lines.")
        accounts[user] = password
    if not accounts:
        raise AccountsError(f"{path}: there is no account; expected {kind}.")
    if os.name == "posix":
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode & 0o077:
            raise AccountsError(
                f"{path}: other users of this machine can read the passwords (mode {mode:03o}). Run: chmod 600 {path}"
            )
    return list(accounts.items())
