"""What the studies share: data, device, backbones, runs, explanations and evaluation. Nothing here knows any study."""
