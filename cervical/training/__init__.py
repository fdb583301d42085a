"""The three procedures of the study: fine-tuning, cost-sensitive training, contrastive learning with its control."""

from cervical.training.contrastive import run_contrastive
from cervical.training.supervised import run_cost_sensitive, run_finetune

__all__ = ["run_contrastive", "run_cost_sensitive", "run_finetune"]
