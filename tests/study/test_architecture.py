"""The architecture as the drawing of it tells it."""

from milcnn.study.architecture import PAPER, SIDE, layers


def test_sizes_and_weights_are_those_of_the_paper():
    table = layers(PAPER, SIDE)
    assert table["channels"].tolist() == [3, 32, 64, 64, 64, 64, 128, 128, 128, 128, 1000, 13, 13, 13]
    assert table["side"].tolist()[-3] == 24  # 576 instances in a crop of 900 px
    # kernels: inputs × outputs × side² + outputs, by hand; then a threshold for each class, and the class layer
    kernels = [(3, 32, 3), (32, 64, 3), (64, 64, 5), (64, 128, 3), (128, 128, 3), (128, 1000, 1), (1000, 13, 1)]
    assert table["weights"].sum() == sum(i * o * k * k + o for i, o, k in kernels) + 13 + (13 * 13 + 13)
