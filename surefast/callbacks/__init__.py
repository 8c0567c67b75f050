"""Callbacks that cannot collide in silence: observers that only look, actors that declare what they write."""
