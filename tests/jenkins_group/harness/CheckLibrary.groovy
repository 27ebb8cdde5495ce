import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import org.codehaus.groovy.ast.ClassCodeVisitorSupport
import org.codehaus.groovy.ast.ClassNode
import org.codehaus.groovy.ast.MethodNode
import org.codehaus.groovy.ast.expr.BinaryExpression
import org.codehaus.groovy.ast.expr.ClosureExpression
import org.codehaus.groovy.ast.expr.ConstantExpression
import org.codehaus.groovy.ast.expr.ConstructorCallExpression
import org.codehaus.groovy.ast.expr.DeclarationExpression
import org.codehaus.groovy.ast.expr.GStringExpression
import org.codehaus.groovy.ast.expr.MapExpression
import org.codehaus.groovy.ast.expr.MethodCallExpression
import org.codehaus.groovy.ast.expr.MethodPointerExpression
import org.codehaus.groovy.ast.expr.StaticMethodCallExpression
import org.codehaus.groovy.control.CompilationUnit
import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.Phases
import org.codehaus.groovy.control.SourceUnit

/**
 * Rules of Jenkins' Groovy that a plain Groovy does not know: `groovy CheckLibrary.groovy signatures.json FILE...`
 * prints what breaks one as a list in JSON.
 *
 * Of CPS: https://www.jenkins.io/doc/book/pipeline/cps-method-mismatches/ and
 * https://www.jenkins.io/doc/book/pipeline/pipeline-best-practices/; of steps: signatures.json.
 */
class Rules extends ClassCodeVisitorSupport {

    /** What may be a local variable while a step runs: Jenkins writes it to disk then. */
    static final List WRITABLE = ['boolean', 'Boolean', 'int', 'Integer', 'String', 'Object', 'List', 'Map', 'Closure', 'def']
    static final List BARRED = ['JsonSlurper', 'JsonSlurperClassic', 'File', 'URL', 'Thread', 'ProcessBuilder', 'Date']
    /** Methods of collections that take a closure and are not made for steps inside it. */
    static final List EAGER = ['each', 'collect', 'findAll', 'every', 'any', 'sort', 'times', 'eachWithIndex', 'inject']
    static final List FORBIDDEN = ['execute', 'evaluate', 'getRawBuild', 'invokeMethod', 'setProperty', 'load', 'exit']

    final Map signatures
    final List<String> variables
    final List<String> findings = []
    final String file
    private boolean nonCps
    private int closures

    Rules(Map signatures, List<String> variables, String file) {
        this.signatures = signatures
        this.variables = variables
        this.file = file
    }

    @Override
    protected SourceUnit getSourceUnit() {
        return null
    }

    @Override
    void visitClass(ClassNode node) {
        boolean script = node.superClass.name == 'groovy.lang.Script'
        if (!script && !node.interfaces*.nameWithoutPackage.contains('Serializable')) {
            find(node, 'a class that is not Serializable')
        }
        super.visitClass(node)
    }

    @Override
    void visitMethod(MethodNode method) {
        nonCps = method.annotations.any { it.classNode.nameWithoutPackage == 'NonCPS' }
        super.visitMethod(method)
        nonCps = false
    }

    @Override
    void visitMethodCallExpression(MethodCallExpression call) {
        String name = call.methodAsString
        if (call.implicitThis) {
            step(call, name)
        } else if (name == null) {
            find(call, 'a computed call')
        }
        if (name in EAGER && !nonCps && !call.implicitThis) {
            find(call, name + ': a loop of closures where steps may run: use for')
        }
        if (name in FORBIDDEN) {
            find(call, name + ': is not allowed in the sandbox')
        }
        super.visitMethodCallExpression(call)
    }

    @Override
    void visitStaticMethodCallExpression(StaticMethodCallExpression call) {
        step(call, call.method)
        super.visitStaticMethodCallExpression(call)
    }

    @Override
    void visitConstructorCallExpression(ConstructorCallExpression call) {
        if (call.type.nameWithoutPackage in BARRED) {
            find(call, 'new ' + call.type.nameWithoutPackage + ': is not allowed in the sandbox')
        }
        super.visitConstructorCallExpression(call)
    }

    @Override
    void visitDeclarationExpression(DeclarationExpression declaration) {
        String type = declaration.leftExpression.type.nameWithoutPackage
        if (!nonCps && !(type in WRITABLE)) {
            find(declaration, 'a local ' + type + ', which Jenkins cannot write down, beside steps')
        }
        super.visitDeclarationExpression(declaration)
    }

    @Override
    void visitBinaryExpression(BinaryExpression expression) {
        if (expression.operation.text in ['=~'] && !nonCps) {
            find(expression, 'a Matcher, which Jenkins cannot write down, beside steps')
        }
        super.visitBinaryExpression(expression)
    }

    @Override
    void visitClosureExpression(ClosureExpression closure) {
        if (nonCps) {
            find(closure, 'a closure in a method with @NonCPS')
        }
        super.visitClosureExpression(closure)
    }

    @Override
    void visitGStringExpression(GStringExpression text) {
        find(text, 'a text with ${}: nothing is spliced into texts here')
        super.visitGStringExpression(text)
    }

    @Override
    void visitMethodPointerExpression(MethodPointerExpression pointer) {
        find(pointer, 'a pointer to a method, which Jenkins cannot write down')
        super.visitMethodPointerExpression(pointer)
    }

    private void step(Object call, String name) {
        Map signature = signatures[name]
        if (nonCps && (signature != null || name in variables)) {
            find(call, name + ': a step in a method with @NonCPS')
        }
        List given = call.arguments.respondsTo('getExpressions') ? call.arguments.expressions : [call.arguments]
        if (signature == null) {
            return
        }
        List named = given.findAll { it instanceof MapExpression }*.mapEntryExpressions.flatten()
        List names = named*.keyExpression*.text
        List unknown = signature.any ? [] : names - signature.named
        if (unknown) {
            find(call, name + ': takes no ' + unknown.join(', '))
        }
        List lacking = signature.required.findAll { !(it in names) && (names || signature.alone != it || !given) }
        if (lacking) {
            find(call, name + ': lacks ' + lacking.join(', '))
        }
        Object script = names ? named.find { it.keyExpression.text == 'script' }?.valueExpression : given ? given[0] : null
        if (name == 'sh' && !constant(script)) {
            find(call, 'sh: its script is not one constant text')
        }
        if (name == 'sh' && constant(script) && script.text.contains("'")) {
            find(call, 'sh: quotes of its own')
        }
        if (name == 'node' && given.every { it instanceof ClosureExpression }) {
            find(call, 'node: names no label')
        }
        if (name == 'lock' && !('resource' in names)) {
            find(call, 'lock: a label without a quantity locks all')
        }
    }

    private static boolean constant(Object script) {
        if (script instanceof BinaryExpression && script.operation.text == '+') {
            return constant(script.leftExpression) && constant(script.rightExpression)
        }
        return script instanceof ConstantExpression
    }

    private void find(Object node, String what) {
        findings.add(file + ':' + node.lineNumber + ': ' + what)
    }

}

Map signatures = new JsonSlurper().parse(new File(args[0]))
List files = args.drop(1).collect { new File(it) }
List variables = files.findAll { it.parentFile.name == 'vars' }.collect { it.name - '.groovy' }
List found = []
for (File file : files) {
    CompilerConfiguration compiler = new CompilerConfiguration(sourceEncoding: 'UTF-8')
    CompilationUnit unit = new CompilationUnit(compiler)
    unit.addSource(file.name, file.getText('UTF-8'))
    unit.compile(Phases.CONVERSION)
    for (ClassNode node : unit.AST.classes) {
        Rules rules = new Rules(signatures, variables, file.name)
        rules.visitClass(node)
        found.addAll(rules.findings)
    }
    int longest = file.readLines().size()
    if (longest > 150) {
        found.add(file.name + ': ' + longest + ' lines: a method of CPS may become too large')
    }
}
println(JsonOutput.toJson(found.unique()))
