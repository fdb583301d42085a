"""Human-in-the-loop tuning of a skin lesion classifier: Grad-CAM in the training loop (master's thesis, chapters 3 to 6).

A VGG16 classifier trained on ISIC 2019 ("Skin Care VGG16") is made to explain itself with Grad-CAM, and is then tuned online from
corrections of the class and of the region; the corrections are simulated from the dermatologists' masks of ISIC 2018. The loss is
L = (1 - lambda) * cross-entropy + lambda * (1 - Jaccard)^2. The document is named in CITATION.cff; tables as printed in `paper.py`.
"""
