"""Seeds are the same numbers on every machine and in every version: stored studies rest on them."""

from __future__ import annotations

import pytest

from attnsearch.core.errors import UsageError
from attnsearch.core.seeds import Repeats, derive, repeat_of, trial_seed, uniform


@pytest.mark.parametrize(
    ("seed", "words", "expected"),  # printf '0/network' | sha256sum | cut -c1-14
    [(0, ("network",), 0x13DB1F57B8AE4A), (7, ("layer1.0.gate",), 0x0B9548DDB2C090)],
)
def test_derived_seeds_are_the_first_seven_bytes_of_a_sha256(seed, words, expected):
    assert derive(seed, *words) == expected


def test_a_uniform_number_is_the_first_eight_bytes_of_a_sha256():
    assert uniform(3, "se|none") == pytest.approx(0x84962D6FB9C108A9 / 2**64, rel=1e-15)


def test_words_are_joined_so_that_a_path_and_its_parts_agree():
    assert derive(1, "a", "b") == derive(1, "a/b")


def test_ranges_share_no_repeat_and_fill_a_studys_thousand():
    repeats = [repeat for purpose in Repeats for repeat in purpose.value]
    assert sorted(repeats) == list(range(1000))
    assert trial_seed(3, 980) == 3980
    assert repeat_of(3980) == 980


def test_what_is_used_is_not_taken_again_and_a_range_ends():
    assert Repeats.REPORT.take(2, used={900, 902}) == (901, 903)
    with pytest.raises(UsageError, match="20 seeds for test trainings and 20 are free, not 21"):
        Repeats.TEST.take(21)
