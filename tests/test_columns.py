"""Which fields take part in what; names of methods are tested with the pooling functions."""

import pandas as pd

from milcnn.columns import CONTROL, SPLIT
from milcnn.roles import fields_to_predict


def test_a_run_predicts_unseen_fields_and_all_controls():
    fields = pd.DataFrame({SPLIT: ["train", "train", "test", "dose"], CONTROL: [False, True, False, False]})
    assert fields_to_predict(fields).index.tolist() == [1, 2, 3]
    assert fields_to_predict(fields.drop(columns=CONTROL)).index.tolist() == [2, 3]
