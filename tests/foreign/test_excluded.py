"""What is left out of scikit-learn's tests stays little, and is still there to be left out."""

from tests.foreign import test_their_halving, test_their_search, test_their_validation
from tests.foreign.excluded import EXCLUDED


def test_fewer_than_one_in_ten_is_left_out():
    names = [name for module in (test_their_halving, test_their_search, test_their_validation) for name in vars(module)]
    tests = {name for name in names if name.startswith("test_")}
    assert set(EXCLUDED) <= tests
    assert len(EXCLUDED) < len(tests) / 10
