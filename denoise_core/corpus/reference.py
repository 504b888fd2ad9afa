"""Leave-one-out reference: what a capture is scored against."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise_core.corpus.store import Corpus
from study_core.errors import BadInput


def loo_mean(corpus: Corpus, rows: ArrayLike) -> NDArray[np.float32]:
    """Mean of the *other* unique captures of each row's group, float32 (M, L).

    Every capture of the group in the corpus counts once, whichever rows are asked for and however often: the
    twin row of a capture never enters its own reference. BadInput when a group has a single capture.
    """
    index = np.asarray(rows, dtype=np.int64)
    codes = corpus.group_codes[index]
    reference_ML = np.empty((len(index), corpus.spectra_NL.shape[1]), dtype=np.float32)
    for code in np.unique(codes):
        members = corpus.spectra_NL[corpus.group_codes == code]
        here = np.flatnonzero(codes == code)
        if len(members) < 2:
            raise BadInput(
                f"group {corpus.groups(index[here[:1]])[0]} has one capture, so no other to refer to",
                file=corpus.root,
                remedy="leave the group out",
            )
        total_L = members.sum(axis=0, dtype=np.float64)
        reference_ML[here] = (total_L - corpus.spectra_NL[index[here]]) / (len(members) - 1)
    return reference_ML
