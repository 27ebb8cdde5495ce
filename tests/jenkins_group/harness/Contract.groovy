/** What Jenkins asks of every call between a pipeline and its steps. */
class Contract {

    /** That a step takes these arguments, by its reference. */
    static void check(Map signature, String name, List arguments) {
        assert signature != null : 'no step ' + name
        Map named = arguments && arguments[0] instanceof Map ? arguments[0] : [:]
        if (!signature.any) {
            assert named.keySet().every { it in signature.named } : name + named.keySet()
        }
        assert signature.required.every { named.containsKey(it) || (signature.alone == it && !named) } : name + named.keySet()
        assert (arguments && arguments[-1] instanceof Closure) == signature.body : name + ' and its body'
    }

    static Object serialized(String name, Object value) {
        if (value == null || value instanceof Closure || value.toString().contains('Closure')) {
            return value
        }
        try {
            new ObjectOutputStream(new ByteArrayOutputStream()).writeObject(value)
        } catch (NotSerializableException wrong) {
            throw new AssertionError(name + ': cannot be written: ' + wrong.message)
        }
        return value
    }

}
