"""A plugin as pyln's users write them: options, methods, one that fails, and a call of its own to the node."""
from pyln.client import Plugin, RpcException

plugin = Plugin(autopatch=True, dynamic=True)


@plugin.init()
def init(options, configuration, plugin, **kwargs):
    plugin.log(f"pyln is here, in {configuration['lightning-dir']}")
    # What init returns beside an empty object would ask to be disabled.
    return {}


@plugin.method("pygreet")
def greet(plugin, name="you", times=1, **kwargs):
    """Says hello.

    As often as is wanted.
    """
    options = plugin.options
    return {
        "said": f"{plugin.get_option('py-greeting')} {name}",
        "times": times,
        "polite": plugin.get_option("py-polite"),
        "number": plugin.get_option("py-number"),
        "declared": sorted(options),
        "by": plugin.rpc.getinfo()["id"],
    }


@plugin.method("pyfail")
def fail(plugin, **kwargs):
    """Fails."""
    raise RpcException("as you wish", code=4243)


@plugin.async_method("pylater")
def later(plugin, request, **kwargs):
    """Answers when something else was asked."""
    plugin.log(f"waiting with {request.method}")
    request.set_result({"later": True})


plugin.add_option("py-greeting", "Hello", "what to say")
plugin.add_option("py-number", None, "a number", opt_type="int")
plugin.add_flag_option("py-polite", "with please")
plugin.run()
