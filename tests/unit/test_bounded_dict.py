"""A bounded dict keeps its limit, and keys that take turns are found."""

from erlmesh.proto.bounded_dict import BoundedDict


def hits(cache, keys):
    """Look up each key, and store it if it is missing. Return how many were found."""
    found = 0
    for key in keys:
        if cache.get(key) == key:
            found += 1
        else:
            cache.store(key, key)
    return found


def test_all_keys_are_kept_up_to_the_limit():
    cache = BoundedDict(64)
    hits(cache, range(64))

    assert hits(cache, range(64)) == 64


def test_a_full_dict_replaces_one_entry_for_each_new_one():
    cache = BoundedDict(64)
    for key in range(1000):
        cache.store(key, key)
        assert len(cache) == min(key + 1, 64)
        assert cache[key] == key


def test_each_entry_is_replaced_once_before_any_is_replaced_twice():
    cache = BoundedDict(64)
    hits(cache, range(64))
    hits(cache, range(100, 164))

    assert sorted(cache) == list(range(100, 164))


def test_most_of_the_keys_that_take_turns_are_found_although_they_are_more_than_the_limit():
    cache = BoundedDict(1024)
    for _ in range(3):
        hits(cache, range(1100))

    assert hits(cache, range(1100)) > 800


def test_a_stored_key_gets_the_new_value():
    cache = BoundedDict(2)
    for value in range(5):
        cache.store("key", value)

    assert cache == {"key": 4}


def test_a_cleared_dict_is_empty_and_can_be_filled_again():
    cache = BoundedDict(4)
    hits(cache, range(7))
    cache.clear()
    assert not cache

    hits(cache, range(4))

    assert hits(cache, range(4)) == 4
