"""Images that travel to another machine arrive as they were, without the test split."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from attnsearch.data import open_data, open_shipped
from attnsearch.data.shipping import is_here, pack, unpack


@pytest.mark.parametrize(("name", "limit"), [("digits", None), ("cued-digits", 300)])
def test_what_arrives_is_what_was_sent(tmp_path, name, limit):
    sent = open_data(name, limit=limit, cache=tmp_path / "here")
    there = tmp_path / "there"
    assert not is_here(sent.fingerprint, there)
    unpack(pack(sent), there)
    assert is_here(sent.fingerprint, there)
    arrived = open_shipped(name, sent.fingerprint, there)
    for split in ("train", "val"):
        np.testing.assert_array_equal(getattr(arrived, split).images, getattr(sent, split).images)
        np.testing.assert_array_equal(getattr(arrived, split).labels, getattr(sent, split).labels)
    assert set(arrived.counts) == {"train", "val"}
    assert not list(there.rglob("test*")), "the test split stays"
    for field in fields(sent):
        if field.name == "groups" and sent.groups:
            for split in ("train", "val"):
                np.testing.assert_array_equal(arrived.groups[split], sent.groups[split])
        elif field.name not in ("train", "val", "counts", "groups"):
            assert getattr(arrived, field.name) == getattr(sent, field.name), field.name
