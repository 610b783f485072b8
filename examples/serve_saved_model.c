// Runs a SavedModel that has fusednorm's ops in it through TensorFlow's C API, with no
// Python: loads the op library, then the model, and takes raw float32 numbers from
// standard input to standard output. How to build and run it: docs/export.md.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "tensorflow/c/c_api.h"

static void check(const char* what, const TF_Status* status) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(EXIT_FAILURE);
}

static TF_Output first_output(TF_Graph* graph, const char* operation) {
  const TF_Output output = {TF_GraphOperationByName(graph, operation), 0};
  if (output.oper == NULL) {
    fprintf(stderr, "the model has no operation %s\n", operation);
    exit(EXIT_FAILURE);
  }
  return output;
}

int main(int argc, char** argv) {
  enum { kMaxRank = 8 };
  const int rank = argc - 5;
  if (rank < 1 || rank > kMaxRank) {
    fprintf(stderr, "usage: %s MODEL OP_LIBRARY INPUT OUTPUT DIMENSION...\n", argv[0]);
    return EXIT_FAILURE;
  }
  TF_Status* status = TF_NewStatus();
  TF_DeleteLibraryHandle(TF_LoadLibrary(argv[2], status));  // The ops stay.
  check("TF_LoadLibrary", status);

  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1,
                                                     graph, NULL, status);
  check("TF_LoadSessionFromSavedModel", status);
  const TF_Output input = first_output(graph, argv[3]);
  const TF_Output output = first_output(graph, argv[4]);

  int64_t shape[kMaxRank];
  size_t bytes = sizeof(float);
  for (int i = 0; i < rank; ++i) bytes *= shape[i] = atoll(argv[5 + i]);
  TF_Tensor* x = TF_AllocateTensor(TF_FLOAT, shape, rank, bytes);
  if (fread(TF_TensorData(x), 1, bytes, stdin) != bytes) {
    fprintf(stderr, "standard input has fewer than %zu bytes\n", bytes);
    return EXIT_FAILURE;
  }
  TF_Tensor* y = NULL;
  TF_SessionRun(session, NULL, &input, &x, 1, &output, &y, 1, NULL, 0, NULL, status);
  check("TF_SessionRun", status);
  fwrite(TF_TensorData(y), 1, TF_TensorByteSize(y), stdout);

  TF_DeleteTensor(x);
  TF_DeleteTensor(y);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return EXIT_SUCCESS;
}
