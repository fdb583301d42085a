"""The page on which a dermatologist corrects the model: class and region, one image at a time, every correction on disk at once.

`CorrectionSession` (session.py) is the whole of it without a browser; `app.py` puts Gradio in front. Research software: no diagnosis.
"""
