"""Operations that a SavedModel may have: those that only compute with what they are given.

What is not here is refused: it reads or writes files (`ReadFile`, `WriteFile`, `SaveV2`, all data sets and
readers, `ImmutableConst`, `DecodeProtoV2`), prints (`PrintV2` can print to files), debugs to a URL
(`DebugIdentityV3`), calls Python (`PyFunc`) or another machine (`RemoteCall`, `Send`), runs foreign code
(`XlaCallModule` may name any function of the process; `MlirPassthroughOp`), waits, or nobody asked for it.
"""

from __future__ import annotations

ARITHMETIC = """
    Abs AccumulateNV2 Acos Acosh Add AddN AddV2 All Angle Any ApproximateEqual ArgMax ArgMin Asin Asinh Atan
    Atan2 Atanh BesselI0 BesselI0e BesselI1 BesselI1e Betainc Bincount BitwiseAnd BitwiseOr BitwiseXor
    Bucketize Ceil ClipByValue Complex ComplexAbs Conj Cos Cosh Cross Cumprod Cumsum CumulativeLogsumexp
    DenseBincount Digamma Div DivNoNan Equal Erf Erfc Erfinv EuclideanNorm Exp Expm1 Floor FloorDiv FloorMod
    Greater GreaterEqual HistogramFixedWidth Igamma Igammac Imag InTopKV2 Inv Invert IsFinite IsInf IsNan
    L2Loss LeftShift Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr Max Maximum Mean Min
    Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual NthElement Polygamma PopulationCount Pow Prod Real
    RealDiv Reciprocal RightShift Rint Round Rsqrt Sign Sin Sinh Spence Sqrt Square SquaredDifference Sub
    Sum Tan Tanh TruncateDiv TruncateMod Xdivy Xlog1py Xlogy Zeta
"""
"""Number by number, and sums over axes."""

ARRAYS = """
    BatchToSpace BatchToSpaceND Bitcast BroadcastArgs BroadcastGradientArgs BroadcastTo Cast Concat
    ConcatOffset ConcatV2 ConjugateTranspose Const DepthToSpace Diag DiagPart DynamicPartition DynamicStitch
    Empty EnsureShape ExpandDims Fill Fingerprint Gather GatherNd GatherV2 GuaranteeConst Identity IdentityN
    InvertPermutation LinSpace ListDiff LowerBound MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2
    MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MirrorPad NoOp
    OneHot OnesLike Pack Pad PadV2 ParallelConcat ParallelDynamicStitch Placeholder PlaceholderV2
    PlaceholderWithDefault PreventGradient Range Rank Reshape Reverse ReverseSequence ReverseV2 Roll
    ScatterNd ScatterNdNonAliasingAdd SegmentMax SegmentMaxV2 SegmentMean SegmentMin SegmentMinV2
    SegmentProd SegmentProdV2 SegmentSum SegmentSumV2 Select SelectV2 Shape ShapeN Size Slice Snapshot
    SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient StridedSlice TensorScatterAdd
    TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate TensorStridedSliceUpdate Tile
    TopK TopKV2 Transpose Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex
    UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound Where ZerosLike
"""
"""Shapes, indices, parts."""

LINEAR_ALGEBRA = """
    BatchMatMul BatchMatMulV2 BatchMatMulV3 Cholesky Einsum FFT FFT2D FFT3D IFFT IFFT2D IFFT3D IRFFT IRFFT2D
    IRFFT3D LogMatrixDeterminant Lu MatMul MatrixDeterminant MatrixInverse MatrixSolve MatrixSolveLs
    MatrixSquareRoot MatrixTriangularSolve Qr RFFT RFFT2D RFFT3D SelfAdjointEigV2 Svd TridiagonalMatMul
    TridiagonalSolve
"""

NEURAL_NETWORKS = """
    AvgPool AvgPool3D BatchNormWithGlobalNormalization BiasAdd BiasAddV1 BlockLSTM BlockLSTMV2 Conv Conv2D
    Conv2DBackpropInput Conv2DBackpropInputV2 Conv3D Conv3DBackpropInput Conv3DBackpropInputV2 CudnnRNN
    CudnnRNNCanonicalToParams CudnnRNNCanonicalToParamsV2 CudnnRNNParamsSize CudnnRNNV2 CudnnRNNV3
    DataFormatDimMap DataFormatVecPermute DepthwiseConv2dNative Dequantize Dilation2D Elu
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel FusedBatchNorm
    FusedBatchNormV2 FusedBatchNormV3 GRUBlockCell LRN LSTMBlockCell LeakyRelu LogSoftmax MaxPool MaxPool3D
    MaxPoolV2 MaxPoolWithArgmax QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3
    QuantizeAndDequantizeV4 QuantizeV2 Relu Relu6 Selu Sigmoid Softmax Softplus Softsign
"""

IMAGES = """
    AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression CropAndResize
    DecodeAndCropJpeg DecodeBmp DecodeGif DecodeImage DecodeJpeg DecodePng DecodeWebP ExtractGlimpse
    ExtractGlimpseV2 ExtractImagePatches ExtractJpegShape ExtractVolumePatches HSVToRGB
    ImageProjectiveTransformV2 ImageProjectiveTransformV3 NonMaxSuppression NonMaxSuppressionV2
    NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 RGBToHSV ResizeArea ResizeBicubic
    ResizeBilinear ResizeNearestNeighbor ScaleAndTranslate
"""
"""Decoding is done by libjpeg, libpng and their like, in this process."""

STRINGS = """
    AsString DecodeBase64 DecodeCSV DecodePaddedRaw DecodeRaw EncodeBase64 ParseExample ParseExampleV2
    ParseSingleExample ParseTensor ReduceJoin RegexFullMatch RegexReplace SerializeTensor ShardedFilename
    StaticRegexFullMatch StaticRegexReplace StringFormat StringJoin StringLength StringLower StringNGrams
    StringSplit StringSplitV2 StringStrip StringToHashBucket StringToHashBucketFast StringToHashBucketStrong
    StringToNumber StringUpper Substr UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode UnicodeScript
    UnicodeTranscode UnsortedSegmentJoin
"""
"""ShardedFilename only makes a name."""

RAGGED_AND_SPARSE = """
    DenseCountSparseOutput DeserializeSparse RaggedBincount RaggedCountSparseOutput RaggedCross
    RaggedFillEmptyRows RaggedGather RaggedRange RaggedTensorFromVariant RaggedTensorToSparse
    RaggedTensorToTensor RaggedTensorToVariant SerializeManySparse SerializeSparse SparseAdd SparseBincount
    SparseConcat SparseCountSparseOutput SparseCross SparseCrossHashed SparseCrossV2 SparseDenseCwiseAdd
    SparseDenseCwiseDiv SparseDenseCwiseMul SparseFillEmptyRows SparseMatMul SparseReduceMax SparseReduceSum
    SparseReorder SparseReshape SparseSegmentMean SparseSegmentMeanWithNumSegments SparseSegmentSqrtN
    SparseSegmentSqrtNWithNumSegments SparseSegmentSum SparseSegmentSumWithNumSegments SparseSlice
    SparseSoftmax SparseSparseMaximum SparseSparseMinimum SparseSplit SparseTensorDenseAdd
    SparseTensorDenseMatMul SparseToDense
"""

TABLES_AND_VARIABLES = """
    AnonymousHashTable AnonymousMutableDenseHashTable AnonymousMutableHashTable
    AnonymousMutableHashTableOfTensors AssignAddVariableOp AssignSubVariableOp AssignVariableOp
    DestroyResourceOp DisableCopyOnRead HashTable HashTableV2 InitializeTable InitializeTableV2
    LookupTableExportV2 LookupTableFind LookupTableFindV2 LookupTableImportV2 LookupTableInsertV2
    LookupTableRemoveV2 LookupTableSize LookupTableSizeV2 MutableDenseHashTableV2
    MutableHashTableOfTensorsV2 MutableHashTableV2 ReadVariableOp ResourceGather ResourceGatherNd
    ResourceScatterAdd ResourceScatterNdUpdate ResourceScatterUpdate VarHandleOp VarIsInitializedOp
    VariableShape
"""
"""They live in memory, and end with the model."""

CONTROL_FLOW = """
    Assert Case CheckNumerics CheckNumericsV2 ControlTrigger EmptyTensorList Enter Exit FakeParam If
    LoopCond Merge NextIteration PartitionedCall StatefulPartitionedCall StatelessCase StatelessIf
    StatelessWhile Switch TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3
    TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3
    TensorListConcat TensorListConcatLists TensorListConcatV2 TensorListElementShape TensorListFromTensor
    TensorListGather TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack
    TensorListPushBackBatch TensorListReserve TensorListResize TensorListScatter
    TensorListScatterIntoExistingList TensorListScatterV2 TensorListSetItem TensorListSplit TensorListStack
    While
"""
"""What they call is checked as well, wherever it is."""

RANDOM = """
    Multinomial NonDeterministicInts RandomIndexShuffle RandomShuffle RandomStandardNormal RandomUniform
    RandomUniformInt RngReadAndSkip RngSkip StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform
    StatefulUniformFullInt StatefulUniformInt StatelessMultinomial StatelessRandomGetAlg
    StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormal
    StatelessRandomNormalV2 StatelessRandomUniform StatelessRandomUniformFullInt
    StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2
    StatelessRandomUniformV2 StatelessShuffle StatelessTruncatedNormal StatelessTruncatedNormalV2
    TruncatedNormal
"""
"""Dropout of training; where serving runs one without a seed, TensorFlow refuses it."""

GRADIENTS = """
    AvgPool3DGrad AvgPoolGrad BiasAddGrad Conv2DBackpropFilter Conv2DBackpropFilterV2 Conv3DBackpropFilterV2
    DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput EluGrad FusedBatchNormGrad
    FusedBatchNormGradV2 FusedBatchNormGradV3 InvGrad LRNGrad LeakyReluGrad MaxPoolGrad MaxPoolGradV2
    MirrorPadGrad ReciprocalGrad Relu6Grad ReluGrad ResizeBicubicGrad ResizeBilinearGrad
    ResizeNearestNeighborGrad RsqrtGrad SeluGrad SigmoidGrad SoftmaxCrossEntropyWithLogits SoftplusGrad
    SoftsignGrad SparseSoftmaxCrossEntropyWithLogits SqrtGrad StridedSliceGrad TanhGrad
"""
"""Functions for training, which some exports carry along."""

ALLOWED = frozenset(
    " ".join(
        (
            ARITHMETIC,
            ARRAYS,
            LINEAR_ALGEBRA,
            NEURAL_NETWORKS,
            IMAGES,
            STRINGS,
            RAGGED_AND_SPARSE,
            TABLES_AND_VARIABLES,
            CONTROL_FLOW,
            RANDOM,
            GRADIENTS,
        )
    ).split()
)

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
"""Their inputs are the arguments of the one function that they name."""

SAVER = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints"})
"""Allowed where only the saver calls them."""

TABLE_FILE = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})
"""Allowed where the file is an asset."""
