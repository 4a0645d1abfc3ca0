"""Which fields a run tells of."""

import pandas as pd

from milcnn.screens.columns import CONTROL, SPLIT, reported


def test_a_run_tells_of_unseen_fields_and_of_all_controls():
    fields = pd.DataFrame({SPLIT: ["train", "train", "test", "dose"], CONTROL: [False, True, False, False]})
    assert reported(fields).index.tolist() == [1, 2, 3]
    assert reported(fields.drop(columns=CONTROL)).index.tolist() == [2, 3]
