"""The checks of each record and of each uid, and the messages to the user about broken rules."""

from __future__ import annotations

from dataclasses import dataclass

from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.external_scores import ScoreFiles
from gdmix_core.data.ingest.scalar_columns import number_columns
from gdmix_core.data.ingest.source import Source


@dataclass(frozen=True)
class Check:
    """name: key in the report; rule: what must hold; advice: what to do when it does not."""

    name: str
    rule: str
    advice: str


LEGAL_LABELS = {
    "logistic_regression": "label is 0 or 1",
    "linear_regression": "label is finite",
    "smoothed_hinge": "label is 0 or 1",
    "poisson_regression": "label is finite and not negative",
}

UID_UNIQUE = Check(
    "uid.unique", "no uid twice in a split", "remove the duplicates; dropping drops every record of that uid"
)
UID_IN_ALL = Check(
    "uid.in_all_directories", "every directory has the uid", "write the same records for every coordinate"
)
UID_DISJOINT = Check("uid.disjoint", "no uid in both training and validation", "take it out of one of the two")
UID_CHECKS = (UID_UNIQUE, UID_IN_ALL, UID_DISJOINT)


def checks_of(source: Source, config: Config, *, labelled: bool = True) -> list[Check]:
    """Return the record checks of one directory; a record's violations are a bit mask over this list."""
    numbers = number_columns(config, labelled=labelled) if source.primary else {}
    found = [Check("uid.present", "every record has a uid", "write a uid for every record")]
    for column in (*numbers.values(), *source.ids):
        if column not in source.texts:
            found.append(Check(f"{column}.present", f"every record has {column}", f"write {column} for every record"))
        found.append(
            Check(
                f"{column}.type",
                f"{column} is one {source.tensors[column].dtype} value",
                "write it so, or correct tensor_metadata.json",
            )
        )
    legal = {
        "label": ("legal", *_legal_label(config)),
        "weight": ("positive", "weight is finite and above 0", "leave out records of weight 0"),
        "offset": ("finite", "offset is finite", "correct the offset"),
    }
    for role, column in numbers.items():
        name, rule, advice = legal[role]
        found.append(Check(f"{column}.{name}", rule, advice))
    for bag in source.bags:
        if bag.label:
            found.append(
                Check(
                    f"{bag.key}.legal",
                    "every value of the label is 1, and no class stands there twice",
                    "list the indices of the classes that apply once each, with the value 1",
                )
            )
        found += [
            Check(
                f"{bag.key}.type",
                f"bag {bag.name} has the described type",
                "correct it or tensor_metadata.json",
            ),
            Check(
                f"{bag.key}.length",
                "as many indices as values" if bag.sparse else f"{bag.features} values",
                "write both lists with the same length" if bag.sparse else "write every value of the vector",
            ),
            Check(
                f"{bag.key}.index",
                f"indices are within 0 … {bag.features - 1}",
                "compare with the feature list; DeText counts from 1: there, its first line is of no feature",
            ),
            Check(f"{bag.key}.finite", "feature values are finite", "leave out or correct NaN and infinity"),
        ]
    return found


def _legal_label(config: Config) -> tuple[str, str]:
    """Rule and advice."""
    if config.task == "multiclass_classification" and config.classes is not None:
        rule = f"label is an integer 0 … {config.classes - 1}"
        return rule, "number the classes from 0, or set classes to how many there are"
    return LEGAL_LABELS.get(config.task, "label is finite"), "correct the label or the task"


def score_checks(files: ScoreFiles) -> dict[str, Check]:
    """Return the checks of an external coordinate's scores, which must hold for every uid of the data."""
    name = files.coordinate
    checks = {
        "unique": Check(
            f"{name}.score.unique", "no uid has two scores", "leave one score a uid in the files of fixed_effect.scores"
        ),
        "finite": Check(
            f"{name}.score.finite", "the score is a finite float32", "correct null, NaN and infinity in the score files"
        ),
    }
    if files.missing == "error":
        checks["present"] = Check(
            f"{name}.score.present",
            "every uid has a score",
            "add its score to the files, or set fixed_effect.missing: zero",
        )
    return checks
