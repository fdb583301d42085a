"""Explainable contrastive and cost-sensitive learning for cervical cancer classification (SIPaKMeD, five kinds of Pap-smear cells).

A. Mustari, R. Ahmed, A. Tasnim, J. S. Juthi, G. M. Shahariar: "Explainable Contrastive and Cost-Sensitive Learning for Cervical Cancer
Classification", 2023, and their thesis "Explainable AI for Medical Imaging: A Deep Learning Approach towards Classification of Cervical
Cancer", Ahsanullah University of Science and Technology. Five networks are fine-tuned, fine-tuned with class costs, and trained in two
stages with a supervised contrastive loss; printed best: 97.29 %. "Paper" and "thesis" in this package mean these two documents.
"""
