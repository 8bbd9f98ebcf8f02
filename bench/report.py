def tables(result):
    return ""
