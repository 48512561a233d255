"""Names of the experts in reports, cards and figures."""

EXPERT_TITLES = {
    "logistic_regression": "balanced logistic regression",
    "scaled_logistic_regression": "balanced logistic regression on scaled genes",
    "discriminant": "discriminant on principal components",
    "encoder": "encoder",
}
