"""Scikit-learn estimators that tune prompts: for pipelines, cross-validation and grid searches."""

from promptgraft.sklearn.classifier import PromptClassifier
from promptgraft.sklearn.estimator import PromptEstimator, backbone_of
from promptgraft.sklearn.regressor import PromptRegressor

__all__ = ["PromptClassifier", "PromptEstimator", "PromptRegressor", "backbone_of"]
