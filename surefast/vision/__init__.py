"""Images: opening, transforms, models, learners, interpretation."""
