from scbert.report.text import with_interval

ENDS = {"low": -0.0104, "high": 0.05, "per_seed": [0.02]}


def test_with_interval_rounds_a_score():
    assert with_interval(0.8996, {"low": 0.85, "high": 0.95}) == "0.900 (0.850-0.950)"


def test_with_interval_shows_the_signs_of_a_difference():
    assert with_interval(0.02, ENDS, "+") == "+0.020 (-0.010 to +0.050)"
