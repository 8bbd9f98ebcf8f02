"""Text → documents: YAML or JSON out of files, as plain values that know the line of each of their fields.

``files`` (paths → text; ``steps`` tells what is waited for), ``yaml_text`` and ``json_text`` (text → documents).
Manifests come through this room, and the configuration file; what the values mean is none of its affair.
"""
