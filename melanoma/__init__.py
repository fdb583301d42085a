"""Explainable Diagnosis of Melanoma Based on Localization of Clinical Indicators and Self-Supervised Learning.

Anonymous authors, paper under double-blind review; no code was published. Bio-U-Net learns to classify skin lesions, turns
its own twelve Grad-CAM maps into drawings of five clinical indicators, and decides from five indicator encoders.
Subnetworks: (1) SimCLR on unlabelled images, (2) classifier, (3) heatmaps to indicator masks, (4) final classifier.
What the paper leaves open or contradicts, and how it was settled: DEVIATIONS.md.
"""
