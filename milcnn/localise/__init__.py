"""Localisation: from a trained network to the pixels and cells that carry the label of a field.

The class map p_i is coarse, one value an instance. ``maps`` brings it to the pixels, with the Jacobian map of Kraus
2016 and others; ``dense`` sharpens a map; ``geometry`` has the places of instances. ``found`` selects cells by a map,
``scores`` compares them with the truth, and ``sanity`` tests what a map depends on.
"""
