"""The three procedures of the study: fine-tuning, cost-sensitive training, contrastive learning with its control."""
