"""A simulated shop: what it sells, what people ask for, what its search engine shows, and what they then do.

`vocabulary` and `taxonomy` (the words) -> `catalogue` (items) -> `queries` (intents and the strings typed for them)
-> `traffic` (who asks when) -> `engine` (the page shown) -> `behaviour` (clicks and orders) -> `simulation` (the log)
-> `files`; `truth` gives the utilities that the behaviour was drawn from. The model and its sources: `behaviour`.
"""
