"""A pipeline with several releases that answer nearly every question differently."""

from __future__ import annotations

from pathlib import Path

from tests.models import tiny_text_package
from tests.support.answers import AnswerBook, make_questions
from tests.support.mill import Mill, items

from embedmill.model import ModelPackage
from embedmill.release.layout import Home
from embedmill.release.log import read_history
from embedmill.release.reader import open_release

DIMENSION = 16
SIZE = 400
PATIENT = {"wait_s": 120.0, "answer_s": 120.0, "patience": 1e6}
"""Servers of these never refuse what they would answer late: a busy machine fails no request."""


def publish_different(root: Path, count: int) -> Mill:
    """Each release has another model and other items; the middle ones are in all of them."""
    mill = Mill(root, root, settings={"index": {"kind": "hnsw", "exact_below": 50}, "serving": PATIENT})
    for number in range(count):
        package = tiny_text_package(root / f"model{number}", dimension=DIMENSION, seed=number)
        mill.settings["model"] = str(package)
        mill.run(items(SIZE, start=number * 10))
    return mill


def answers_of(home: Home, *, each: int = 60) -> AnswerBook:
    """So many questions of each kind that all published releases can answer, and their answers."""
    names = read_history(home).published()
    common = [f"s{n}" for n in range((len(names) - 1) * 10, SIZE)]
    book = AnswerBook(make_questions(common, DIMENSION, each=each))
    for name in names:
        release = open_release(home, name.release)
        book.add(release, ModelPackage.open(release.model_folder).package_digest())
    return book
