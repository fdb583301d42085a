"""LMF: a margin-aware focal loss for imbalanced medical images, compared with four other losses.

Sadi, Chowdhury, Jahan, Rafi, Chowdhury, Khan, Mohammed: "LMFLOSS: A hybrid loss for imbalanced medical image classification", 2024
(arXiv:2212.12741). LMF = alpha * LDAM + beta * focal loss, both on the same logits; three backbones, four data sets, one run a cell.
Cite that paper for the method and each data set's own paper for the images; what we do differently is in DEVIATIONS.md.
`python -m lmf --help` lists the commands; `from lmf.losses import LMFLoss` gives the loss alone.
"""
