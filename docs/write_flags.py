"""Write the tables of flags in docs/usage.md from the configuration.

python docs/write_flags.py
"""

import ast
import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any, get_type_hints

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import config
from configs.base import choices

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "usage.md"
BEGIN, END = "<!-- flags: written by docs/write_flags.py -->", "<!-- end of flags -->"
VERIFICATION = "speaker_verification.py"
PREPARATION = "prepare_data.py"
COMMANDS = {
    f"{PREPARATION} segments": config.SegmentsConfig,
    f"{PREPARATION} download": config.DownloadConfig,
    f"{PREPARATION} describe": config.DescribeConfig,
    "extract_features.py": config.ExtractionConfig,
    "speaker_recognition_librispeech.py": config.ComparisonConfig,
    "speaker_recognition_inference.py": config.InferenceConfig,
    "train_encoder.py": config.TrainingConfig,
    "make_report.py": config.ReportConfig,
    f"{VERIFICATION} evaluate": config.EvaluateConfig,
    f"{VERIFICATION} train": config.TrainVerifierConfig,
    f"{VERIFICATION} verify": config.VerifyConfig,
    f"{VERIFICATION} enroll": config.EnrollConfig,
    f"{VERIFICATION} remove": config.RemoveConfig,
    f"{VERIFICATION} list": config.ListConfig,
    f"{VERIFICATION} export": config.ExportConfig,
    f"{VERIFICATION} merge": config.MergeConfig,
    f"{VERIFICATION} identify": config.IdentifyConfig,
    f"{VERIFICATION} score": config.ScoreConfig,
    "app.py": config.PageConfig,
}


def field_docs(kind: type) -> dict[str, str]:
    """Return the docstrings of the fields of a dataclass and of its bases."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        body = ast.parse(inspect.cleandoc(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(node.target, ast.Name):
                docs[node.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return docs


def describe_default(field: "dataclasses.Field[Any]") -> str:
    """Write the default of a field as it is given on the command line."""
    if field.default is dataclasses.MISSING:  # a positional argument; there may be none
        return "none"
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    if isinstance(field.default, tuple):
        return " ".join(f"`{value}`" for value in field.default) or "none"
    return "none" if field.default is None else f"`{field.default}`"


def flags_table(kind: type) -> str:
    """Return a table of the flags of a command, without those that all commands have."""
    docs, common = field_docs(kind), {field.name for field in dataclasses.fields(config.ScriptConfig)}
    hints = get_type_hints(kind)
    lines = ["| flag | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        if field.name in common:
            continue
        words = choices(hints[field.name])
        listed = f" One of {', '.join(f'`{word}`' for word in words)}." if len(words) > 1 else ""
        is_positional = field.default is dataclasses.MISSING
        name = f"{field.name.upper()} ..." if is_positional else f"--{field.name}"
        lines.append(f"| `{name}` | {describe_default(field)} | {docs[field.name]}{listed} |")
    return "\n".join(lines)


def flags_section() -> str:
    """Return the tables of all commands."""
    docs = field_docs(config.ScriptConfig)
    common = [f"`--{field.name}`: {docs[field.name]}" for field in dataclasses.fields(config.ScriptConfig)]
    parts = ["All commands:\n\n" + "\n".join(f"- {text}" for text in common)]
    parts += [f"### {name}\n\n{inspect.getdoc(kind)}\n\n{flags_table(kind)}" for name, kind in COMMANDS.items()]
    return "\n\n".join(parts)


def updated_page(text: str) -> str:
    """Return the page with the tables replaced."""
    pattern = re.escape(BEGIN) + ".*" + re.escape(END)
    return re.sub(pattern, lambda _: f"{BEGIN}\n\n{flags_section()}\n\n{END}", text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(updated_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)}")
