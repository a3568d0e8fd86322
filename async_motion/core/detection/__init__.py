"""Luma to detection: what moved in front of one fixed camera. `detector` joins the steps; see README.md."""
