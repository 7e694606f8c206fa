"""Frames in worker processes: what libraries with threads of their own have begun, no forked process has to go on with."""

from contextlib import closing

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import flaregate as fg
from flaregate.testing import InProcessClient
from worker_image.in_process import jobs_on
from worker_image.process_runner.nursery import Zygote
from worker_image.process_runner.runner import ProcessRunner

ROWS, LABELS = load_iris(return_X_y=True)
NAMES = ["a", "b", "c", "d"]


@pytest.mark.parametrize("make", [pd.DataFrame, lambda rows, columns: pl.DataFrame(rows, schema=columns)])
def test_frames_are_cut_and_scored_in_processes(make):
    X = make(ROWS, columns=NAMES)
    pipe = fg.Pipeline("two")
    pipe.node("lr", LogisticRegression(), after=pipe.node("scale", StandardScaler()))
    with (
        closing(Zygote.start()) as zygote,
        closing(ProcessRunner(zygote, 2)) as runner,
        InProcessClient(jobs_on(lambda: runner)) as client,
    ):
        result = client.submit(pipe, action="cross_validate", X=X, y=LABELS, cv=3).result()
    local = cross_val_score(make_pipeline(StandardScaler(), LogisticRegression()), X, LABELS, cv=3)
    np.testing.assert_array_equal(result.best.scores["score"], local)
