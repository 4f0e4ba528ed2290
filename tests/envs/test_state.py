"""What a snapshot is made of comes back as it was, type and bit."""

import json
from collections import deque

import numpy as np
import pytest

from foreplan.envs.contract import stored
from foreplan.envs.state import Uncapturable, capture, decode, encode, install

PLAIN = [
    None,
    True,
    3,
    2**100,
    0.1,
    float("-inf"),
    "phase",
    np.float32(0.1),
    np.int64(7),
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    (1, [2.5, "a"], {"b": (None,)}),
    [],
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_comes_back(value) -> None:
    back = decode(stored(encode(value)))
    assert type(back) is type(value)
    np.testing.assert_equal(back, value)


def test_a_deque_keeps_its_bound() -> None:
    back = decode(stored(encode(deque([1, np.zeros(2)], maxlen=2))))
    back.append(5)
    assert len(back) == 2


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_a_random_generator_goes_on_where_it_was(make) -> None:
    generator = make(4)
    generator.normal(size=3)
    saved = stored(encode(generator))
    truth = generator.normal(size=5)
    assert np.array_equal(decode(saved).normal(size=5), truth)  # a new one
    assert decode(saved, generator) is generator  # and the same one, for others may hold it
    assert np.array_equal(generator.normal(size=5), truth)


def test_attributes_that_did_not_exist_are_deleted() -> None:
    class Thing:
        pass

    thing = Thing()
    thing.kept = 1
    saved = capture(thing)
    thing.kept, thing.later = 2, 3
    install(thing, saved)
    assert vars(thing) == {"kept": 1}


def test_what_is_not_plain_is_named() -> None:
    class Thing:
        pass

    thing = Thing()
    thing.socket = object()
    with pytest.raises(Uncapturable, match=r"Thing\.socket \(builtins\.object\)"):
        capture(thing)
    assert capture(thing, names=("socket",)) == {}
    assert json.dumps(capture(thing, types=(object,))) == "{}"
