"""The inspector: its numbers against other derivations, and the network untouched."""

import pytest
import torch

from hubel import zoo
from hubel.analysis import summary

FACTS = zoo.facts()


@pytest.mark.parametrize("name", [name for name in zoo.MODELS if FACTS[name]["macs"] < 20e9])
def test_zoo_figures_and_rows_that_add_up(name):
    with torch.device("meta"):
        net = zoo.create(name)
    found = summary(net, FACTS[name]["input"])
    assert (found.total.params, found.total.macs) == (FACTS[name]["params"], FACTS[name]["macs"])
    assert sum(row.params for row in found.rows) == found.total.params
    assert sum(row.macs for row in found.rows) == found.total.macs
    assert sum(row.saved_bytes for row in found.rows) == found.total.saved_bytes
