"""MQTT: the client that lives across connections, one connection, and the embedded broker.

    client        retained states, subscriptions, reconnects
    connection    one connection to a broker, over aiomqtt; `tls` its context
    retained, refusals, packet_limit  what the client knows of its broker; pure
    embedded, embedded_process        the embedded broker, and the process in which it runs
    find          the configured broker, or the embedded one
    fake          a broker in memory, for tests

Other packages declare the protocols that they need of it; `app` passes the client.
"""
