"""Errors, checked reading and atomic writing of files, and tables for terminals and notebooks. Imports no room."""

from files.accounts import AccountsError, read_accounts
from files.arrays import load_arrays, write_arrays
from files.choices import check_options, describe_type, load_choice, unknown_choice
from files.digests import file_digest
from files.downloads import CLONE, PRETRAINED_FOLDER, PROBE_SECONDS, first_line, probe
from files.errors import InputError, OutputError
from files.extras import missing_requirement, optional_imports, require
from files.file_kinds import AUDIO_START, STORE_ID, WEIGHTS, describe_file, other_kind
from files.names import (
    UNKNOWN,
    describe_similar,
    is_missing,
    is_reserved,
    listing,
    normal_form,
    reserved_problem,
    without_case_and_spaces,
)
from files.paths import PathLike, as_paths, existing_path, is_file_name, is_utf8, safe_file_name
from files.plugins import PluginFiles, is_reference, load_plugin
from files.private_folder import LOCK_NAME, private_folder
from files.progress import Progress, announce, format_duration, observe_progress, track
from files.records import Record, read_csv, without_nan, write_csv, write_json
from files.representations import fields_repr, html_table, note_of_rest, short_repr
from files.result_table import TABLE_FILES, Table, TableFormat, write_tables
from files.tables import count_of, format_percent, format_table, printable
from files.tensors import (
    FormatReader,
    load_checked,
    load_tensors,
    read_checked,
    tensors_from_bytes,
    tensors_to_bytes,
    write_tensors,
)  # fmt: skip
from files.text_tables import read_lines, read_text, table_rows
from files.user_cache import cache_folder, forget, remembered
from files.versions import VERSION, commit, timestamp, versions
from files.wheel_file import WheelFile
from files.writing import (
    check_destination,
    check_not_input,
    check_not_other_kind,
    check_suffix,
    check_writable,
    write_atomically,
)

__all__ = [
    "LOCK_NAME",
    "AUDIO_START",
    "AccountsError",
    "CLONE",
    "PRETRAINED_FOLDER",
    "PROBE_SECONDS",
    "STORE_ID",
    "UNKNOWN",
    "VERSION",
    "WEIGHTS",
    "WIDTH",
    "InputError",
    "OutputError",
    "PathLike",
    "FormatReader",
    "Progress",
    "PluginFiles",
    "Record",
    "as_paths",
    "TABLE_FILES",
    "Table",
    "TableFormat",
    "WheelFile",
    "announce",
    "cache_folder",
    "check_options",
    "commit",
    "check_destination",
    "check_not_input",
    "check_not_other_kind",
    "check_suffix",
    "check_writable",
    "count_of",
    "fields_repr",
    "is_file_name",
    "is_utf8",
    "describe_file",
    "describe_similar",
    "describe_type",
    "existing_path",
    "file_digest",
    "first_line",
    "forget",
    "format_duration",
    "format_percent",
    "format_table",
    "html_table",
    "is_missing",
    "is_reserved",
    "listing",
    "load_arrays",
    "is_reference",
    "load_checked",
    "load_choice",
    "load_plugin",
    "load_tensors",
    "normal_form",
    "note_of_rest",
    "missing_requirement",
    "observe_progress",
    "optional_imports",
    "other_kind",
    "printable",
    "private_folder",
    "probe",
    "read_accounts",
    "read_checked",
    "read_csv",
    "read_lines",
    "read_text",
    "reserved_problem",
    "remembered",
    "safe_file_name",
    "require",
    "short_repr",
    "table_rows",
    "tensors_from_bytes",
    "tensors_to_bytes",
    "timestamp",
    "track",
    "unknown_choice",
    "versions",
    "without_case_and_spaces",
    "without_nan",
    "write_arrays",
    "write_atomically",
    "write_csv",
    "write_json",
    "write_tables",
    "write_tensors",
]
