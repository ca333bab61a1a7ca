"""Tables and views, and how a database comes to them."""
