"""What the experts are called in reports, cards and figures."""

EXPERT_TITLES = {
    "logistic_regression": "balanced logistic regression",
    "support_vectors": "balanced support vector machine",
    "discriminant": "discriminant on principal components",
    "encoder": "encoder",
}
