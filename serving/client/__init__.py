"""The client: query strings in, the best items out.

    with SearchClient("localhost:8500", "shop") as client:
        [result] = client.search(["red shoes"], k=20, filters=["brand=acme"]).results

Over TensorFlow Serving's gRPC API, to `serving.server` or to TensorFlow Serving itself. Imports no TensorFlow.
"""

from serving.client.connection import Tls
from serving.client.retries import RetryPolicy
from serving.client.search import AsyncSearchClient, SearchClient
from serving.client.search_error import SearchError
from serving.client.search_reply import Hit, QueryResult, SearchReply

__all__ = [
    "AsyncSearchClient",
    "Hit",
    "QueryResult",
    "RetryPolicy",
    "SearchClient",
    "SearchError",
    "SearchReply",
    "Tls",
]
