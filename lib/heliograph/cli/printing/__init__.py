"""What commands print: lines, tables, documents as YAML and JSON, and JSONPath over them."""
