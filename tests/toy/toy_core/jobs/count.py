"""Count the words of a text; the counts are the model, a folder."""

from __future__ import annotations

from collections import Counter

from study_core.files import write_json
from study_core.gates import Measure
from study_core.job import Content, Context, Receipt, Request, Where


class Count(Request):
    text: Content
    longest: int = 99
    device: Where[str] = "auto"


class Counted(Receipt):
    model: Content
    measures: tuple[Measure, ...]


def count(request: Count, context: Context) -> Counted:
    words = [word for word in request.text.checked().read_text().split() if len(word) <= request.longest]
    write_json(context.folder / "model" / "counts.json", Counter(words))
    context.progress(done=1, total=1)
    rows = [Measure("words", float(len(words))), *(Measure("seen", float(words.count(w)), {"word": w}) for w in "ab")]
    return Counted(model=Content.of(context.folder / "model"), measures=tuple(rows))
