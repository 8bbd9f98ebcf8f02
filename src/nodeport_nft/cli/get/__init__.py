"""``get``: which objects, in which form, once or as they change.

``command`` has the options, ``listings`` the tables, ``output`` the forms of ``-o`` (``jsonpath`` and ``template``,
``custom_columns``), ``sorting`` what ``--sort-by`` does, ``watching`` follows what changes.
"""
