"""Localisation: from a trained network to the pixels and cells that carry the label of a field.

The class map p_i is coarse, one value an instance. ``maps`` has what brings it to the pixels, the Jacobian map of
Kraus 2016 among them; ``dense`` what sharpens any map; ``geometry`` where instances lie. ``found`` makes cells of
maps, ``scores`` compares them with the truth, ``sanity`` asks what the maps depend on.
"""
