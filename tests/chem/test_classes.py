import pytest

from mmgnn_dist.chem.own_targets.classes import check_classes, class_index, class_name, sorted_classes
from mmgnn_dist.errors import UserError


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *[(True, "true"), ("False", "false"), (1.0, "1"), ("0", "0"), (" toxic ", "toxic"), (1.5, "1.5")],
        *[(None, None), ("", None), (float("nan"), None), ("N/A", None)],
    ],
)
def test_a_class_has_one_name_however_it_is_written(value, name):
    assert class_name(value) == name


def test_classes_are_sorted_and_labels_are_their_numbers():
    assert sorted_classes(["10", "2", "1"]) == ("1", "2", "10")
    assert sorted_classes({"low", "high", "mid"}) == ("high", "low", "mid")
    assert class_index(2, ("1", "2", "10")) == 1.0
    with pytest.raises(ValueError, match="index"):
        class_index("other", ("1", "2"))


def test_one_class_and_a_number_are_refused():
    with pytest.raises(UserError, match="two are needed"):
        check_classes("toxic", ("no",))
    with pytest.raises(UserError, match="give data.targets.toxic.unit"):
        check_classes("toxic", tuple(map(str, range(200))))
